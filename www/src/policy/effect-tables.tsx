// The effect of a change of the rules as tables: shifts of scores, and the changed requests.
import type { ComponentChildren } from 'preact';
import { Table } from '../components/table.tsx';
import { ActionTag, BandTag } from '../components/ui.tsx';
import { count, score } from '../format.ts';
import { type Effect, SIZES, type Verdict } from './effect.ts';

interface Props {
  effect: Effect;
  /** Shows a request by its name in the effect. */
  toRequest(name: string): ComponentChildren;
}

export function EffectTables({ effect, toRequest }: Props) {
  const { requests, changed, lower, higher, changes } = effect;
  return (
    <>
      <p role="status">
        {changed
          ? `${count(changed)} of ${count(requests)} requests change.`
          : `None of ${count(requests)} requests changes.`}
      </p>
      {changed > 0 && (
        <>
          <Table
            label="Shifts of scores"
            columns={[
              'Shift of the score',
              { title: 'Lower', number: true },
              { title: 'Higher', number: true },
            ]}
          >
            {SIZES.map((size, index) => (
              <tr key={size}>
                <th scope="row">
                  {size === 100 ? 'more than 20 points' : `up to ${size} points`}
                </th>
                <td class="number">{count(lower[index]!)}</td>
                <td class="number">{count(higher[index]!)}</td>
              </tr>
            ))}
          </Table>
          <Table
            label="Changed requests"
            frame="tall"
            columns={['Request', 'Before', 'After']}
          >
            {changes.map(({ request, from, to }) => (
              <tr key={request}>
                <th scope="row">{toRequest(request)}</th>
                <td>
                  <VerdictText {...from} />
                </td>
                <td>
                  <VerdictText {...to} />
                </td>
              </tr>
            ))}
          </Table>
          {changed > changes.length && (
            <p class="note">The {changes.length} largest changes are listed.</p>
          )}
        </>
      )}
    </>
  );
}

const VerdictText = ({ score: value, band, action }: Verdict) => (
  <>
    {score(value)} {band && <BandTag band={band} />} {action && <ActionTag action={action} />}
  </>
);
