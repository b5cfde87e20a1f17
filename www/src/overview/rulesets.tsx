// The share of traffic of each ruleset, and comparisons: canary with active, shadow with active.
import { type Band, BANDS, type DeploymentStatus, type Loaded, type Series } from '../api.ts';
import { Async, Empty } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { BandTag, Hash, Name, Panel } from '../components/ui.tsx';
import { count, share } from '../format.ts';
import { linkToHits } from '../range.ts';
import { sum } from './series.ts';

type Ruleset = Series['rulesets'][number];
type Shadow = NonNullable<DeploymentStatus['traffic']['shadow']>;

interface Props {
  series: Series;
  status: DeploymentStatus | undefined;
}

export function Rulesets({ series, status }: Props) {
  const total = sum(series.rulesets.map(({ requests }) => requests));
  const pair = newestCanary(series.rulesets);
  return (
    <Panel title="Rules by share of traffic" class="half">
      {total === 0 ? (
        <Empty>No ruleset decided a request in this range.</Empty>
      ) : (
        <Table
          label="Rulesets by requests"
          class="tight"
          columns={[
            'Ruleset',
            'Role',
            { title: 'Release', number: true },
            { title: 'Requests', number: true },
            { title: 'Share', number: true },
          ]}
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
      {pair && <CanaryComparison {...pair} ended={hasEnded(pair.canary, status)} />}
    </Panel>
  );
}

interface CanaryPair {
  active: Ruleset;
  canary: Ruleset;
}

/**
 * Returns the newest canary and the active ruleset of the same release. Rulesets of different
 * releases are not comparable, because they decided different traffic.
 */
function newestCanary(rulesets: readonly Ruleset[]): CanaryPair | undefined {
  const activeOf = (canary: Ruleset) =>
    rulesets.find(({ role, serial }) => role === 'active' && serial === canary.serial);
  const pairs = rulesets.flatMap((canary) => {
    const active = canary.role === 'canary' && activeOf(canary);
    return active ? [{ active, canary }] : [];
  });
  return pairs.toSorted((a, b) => b.canary.serial - a.canary.serial)[0];
}

/**
 * Returns whether the canary is no longer part of the newest release. Returns false if the status
 * is unknown.
 */
function hasEnded({ serial, ruleset }: Ruleset, status: DeploymentStatus | undefined): boolean {
  if (!status) return false;
  const { release } = status;
  if (release?.serial !== serial) return true;
  return release.release !== null && release.release.canary?.digest !== ruleset;
}

function CanaryComparison({ active, canary, ended }: CanaryPair & { ended: boolean }) {
  const percent = ({ bands, requests }: Ruleset, band: Band) =>
    (100 * (bands[band] ?? 0)) / (requests || 1);
  return (
    <section class="comparison">
      <h3>Canary compared with active</h3>
      <p class="note">
        Release {canary.serial}: canary <Hash value={canary.ruleset} />, active{' '}
        <Hash value={active.ruleset} />
        {ended && '. The canary has ended'}.
      </p>
      <Table
        label="Canary compared with active"
        columns={[
          'Band',
          { title: 'Active', number: true },
          { title: 'Canary', number: true },
          { title: 'Difference', number: true },
        ]}
      >
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

interface ShadowPanelProps {
  /** The status over the whole range. */
  range: Loaded<DeploymentStatus> & { reload(): void };
  /** The current status. */
  status: DeploymentStatus | undefined;
}

export function ShadowPanel({ range, status }: ShadowPanelProps) {
  const shadow = (range.state !== 'loading' && range.data?.traffic.shadow) || null;
  return (
    <Panel
      title="Shadow compared with active"
      note={shadow && `${count(shadow.requests)} requests scored by both`}
      class="half"
    >
      <Async loaded={range} lines={6}>
        {({ ledger, traffic }) =>
          traffic.shadow ? (
            <ShadowComparison shadow={traffic.shadow} status={status} />
          ) : (
            <NoShadow isKnown={ledger.reachable} />
          )
        }
      </Async>
    </Panel>
  );
}

function NoShadow({ isKnown }: { isKnown: boolean }) {
  if (!isKnown) return <Empty>Unknown: the ledger does not answer.</Empty>;
  return (
    <Empty>
      There was no shadow ruleset in this range. <code>hedgerow push --shadow</code> scores traffic
      with new rules in addition to the active rules.
    </Empty>
  );
}

/**
 * Shows a note if the shadow ruleset is no longer part of the newest release. Shows nothing if the
 * newest release is unknown.
 */
function EndedNote({ ruleset, status }: { ruleset: string; status: DeploymentStatus }) {
  const { release } = status;
  const current = release?.release?.shadow?.digest;
  if (current === ruleset || (release && !release.release)) return null;
  if (!current) return <> It has ended; there is no shadow now.</>;
  return (
    <>
      {' '}
      It has ended; the shadow is now <Hash value={current} />.
    </>
  );
}

interface ShadowComparisonProps {
  shadow: Shadow;
  status: DeploymentStatus | undefined;
}

function ShadowComparison({ shadow, status }: ShadowComparisonProps) {
  const changed = shadow.bands
    .filter(({ from, to }) => from !== to)
    .toSorted((a, b) => b.count - a.count);
  return (
    <>
      <p class="note">
        The shadow is <Hash value={shadow.ruleset} />; it decides nothing.
        {status && <EndedNote ruleset={shadow.ruleset} status={status} />}
      </p>
      {changed.length === 0 && <p>Every request would be in the same band.</p>}
      <ul class="band-changes">
        {changed.map((change) => (
          <li key={`${change.from} ${change.to}`}>
            <BandTag band={change.from} /> <span aria-label="to">→</span>{' '}
            <BandTag band={change.to} /> {count(change.count)} requests,{' '}
            {share(change.count, shadow.requests)}
          </li>
        ))}
      </ul>
      {shadow.signatures.length > 0 && <SingleHits signatures={shadow.signatures} />}
    </>
  );
}

/** Signatures that hit only in the active ruleset, or only in the shadow. */
function SingleHits({ signatures }: Pick<Shadow, 'signatures'>) {
  const sorted = signatures.toSorted(
    (a, b) => b.only_active + b.only_shadow - a.only_active - a.only_shadow,
  );
  return (
    <Table
      label="Signatures that hit in only one of the two"
      frame="bounded"
      columns={[
        'Hit in one of the two',
        { title: 'Only active', number: true },
        { title: 'Only shadow', number: true },
      ]}
    >
      {sorted.map(({ name, only_active, only_shadow }) => (
        <tr key={name}>
          <th scope="row">
            <a href={linkToHits(name)}>
              <Name>{name}</Name>
            </a>
          </th>
          <td class="number">{count(only_active)}</td>
          <td class="number">{count(only_shadow)}</td>
        </tr>
      ))}
    </Table>
  );
}
