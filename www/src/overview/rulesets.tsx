// Which rules decide which share of the traffic, and how those on trial differ from the active ones.
import { type Band, BANDS, type Loaded, type Series, type Status } from '../api.ts';
import { BandTag, Hash, Panel } from '../components/parts.tsx';
import { Empty, Shown } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { count, share } from '../format.ts';
import { link } from '../router.ts';
import { sum } from './series.ts';

type Ruleset = Series['rulesets'][number];
type Shadow = NonNullable<Status['traffic']['shadow']>;

export function Rulesets({ series, status }: { series: Series; status: Status | undefined }) {
  const total = sum(series.rulesets.map(({ requests }) => requests));
  const pair = compared(series.rulesets);
  return (
    <Panel title="Rules by share of traffic" class="half">
      {total === 0 ? (
        <Empty>No ruleset decided anything in this range.</Empty>
      ) : (
        <Table
          label="Rulesets by requests"
          class="tight"
          columns={['Ruleset', 'Role', { title: 'Release', number: true }, { title: 'Requests', number: true }, { title: 'Share', number: true }]}
        >
          {series.rulesets.map(({ ruleset, serial, role, requests }) => (
            <tr key={`${ruleset} ${serial} ${role}`}>
              <th scope="row">
                <Hash value={ruleset} />
              </th>
              <td>{role}</td>
              <td class="number">{serial || '–'}</td>
              <td class="number">{count(requests)}</td>
              <td class="number">{share(requests, total)}</td>
            </tr>
          ))}
        </Table>
      )}
      {pair && <Canary {...pair} ended={hasEnded(pair.canary, status)} />}
    </Panel>
  );
}

/** The canary of the newest release that has both, and what was active beside it: others saw other traffic. */
function compared(rulesets: readonly Ruleset[]): { active: Ruleset; canary: Ruleset } | undefined {
  const pairs = rulesets.flatMap((canary) => {
    const active = canary.role === 'canary' && rulesets.find(({ role, serial }) => role === 'active' && serial === canary.serial);
    return active ? [{ active, canary }] : [];
  });
  return pairs.toSorted((a, b) => b.canary.serial - a.canary.serial)[0];
}

/** Whether another release is in force, or none; false where that is unknown. */
function hasEnded({ serial, ruleset }: Ruleset, status: Status | undefined): boolean {
  if (!status) return false;
  const { release } = status;
  return release?.serial !== serial || release.release.canary?.digest !== ruleset;
}

function Canary({ active, canary, ended }: { active: Ruleset; canary: Ruleset; ended: boolean }) {
  const percent = ({ bands, requests }: Ruleset, band: Band) => (100 * (bands[band] ?? 0)) / (requests || 1);
  return (
    <section class="part">
      <h3>Canary against active</h3>
      <p class="note">
        Release {canary.serial}: canary <Hash value={canary.ruleset} /> against <Hash value={active.ruleset} />{ended && '. It has ended'}.
      </p>
      <Table label="Canary against active" columns={['Band', { title: 'Active', number: true }, { title: 'Canary', number: true }, { title: 'Difference', number: true }]}>
        {BANDS.map((band) => (
          <tr key={band}>
            <th scope="row">
              <BandTag band={band} />
            </th>
            <td class="number">{share(active.bands[band] ?? 0, active.requests)}</td>
            <td class="number">{share(canary.bands[band] ?? 0, canary.requests)}</td>
            <td class="number">{points(percent(canary, band) - percent(active, band))}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}

function points(difference: number): string {
  if (Math.abs(difference) < 0.05) return '0 points';
  return `${difference > 0 ? '+' : '−'}${Math.abs(difference).toFixed(1)} points`;
}

/** `range` tells of the whole range, `status` of now. */
export function ShadowPanel({ range, status }: { range: Loaded<Status> & { reload(): void }; status: Status | undefined }) {
  const shadow = (range.state !== 'loading' && range.data?.traffic.shadow) || null;
  return (
    <Panel title="Shadow against active" note={shadow && `${count(shadow.requests)} requests scored by both`} class="half">
      <Shown loaded={range} lines={6}>
        {({ ledger, traffic }) => (traffic.shadow ? <Compared shadow={traffic.shadow} status={status} /> : <NoShadow known={ledger.reachable} />)}
      </Shown>
    </Panel>
  );
}

function NoShadow({ known }: { known: boolean }) {
  if (!known) return <Empty>Unknown: the ledger does not answer.</Empty>;
  return (
    <Empty>
      No ruleset was watched in shadow in this range. <code>hedgerow push --shadow</code> scores with new rules beside those that decide.
    </Empty>
  );
}

/** Whether a shadow that was counted still watches. */
function Watching({ ruleset, status }: { ruleset: string; status: Status }) {
  const now = status.release?.release.shadow?.digest;
  if (now === ruleset) return null;
  return <> It has ended: {now ? <>now <Hash value={now} /> is watched</> : 'nothing is watched now'}.</>;
}

function Compared({ shadow, status }: { shadow: Shadow; status: Status | undefined }) {
  const changed = shadow.bands.filter(({ from, to }) => from !== to).toSorted((a, b) => b.count - a.count);
  const single = shadow.signatures.toSorted((a, b) => b.only_active + b.only_shadow - a.only_active - a.only_shadow);
  return (
    <>
      <p class="note">
        The shadow is <Hash value={shadow.ruleset} />; it decides nothing.{status && <Watching ruleset={shadow.ruleset} status={status} />}
      </p>
      {changed.length === 0 && <p>Every request would be in the same band.</p>}
      <ul class="changes">
        {changed.map(({ from, to, count: own }) => (
          <li key={`${from} ${to}`}>
            <BandTag band={from} /> <span aria-label="to">→</span> <BandTag band={to} /> {count(own)} requests, {share(own, shadow.requests)}
          </li>
        ))}
      </ul>
      {single.length > 0 && (
        <Table
          label="Signatures that only one of the two hit"
          frame="bounded"
          columns={['Hit by one of the two', { title: 'Only active', number: true }, { title: 'Only shadow', number: true }]}
        >
          {single.map(({ name, only_active, only_shadow }) => (
            <tr key={name}>
              <th scope="row">
                <a href={link('decisions', { signature: name })}>{name}</a>
              </th>
              <td class="number">{count(only_active)}</td>
              <td class="number">{count(only_shadow)}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
