// The exemptions of the policy: their last day, and the number of requests to which they applied.
import { type DeploymentStatus, latest, type Loaded } from '../api.ts';
import { Table } from '../components/table.tsx';
import { Panel } from '../components/ui.tsx';
import { count } from '../format.ts';

/**
 * Shows the exemptions of the active policy, and those of other policies that decided requests of
 * the range. Shows nothing if there are none.
 */
export function Exemptions({ range }: { range: Loaded<DeploymentStatus> }) {
  const status = latest(range);
  const rows = status ? toRows(status) : [];
  if (!status || rows.length === 0) return null;
  return (
    <Panel title="Exemptions" note="if several apply to a request, the first counts" class="half">
      <Table
        label="Exemptions by requests"
        frame="bounded"
        columns={['Exemption', 'Last day', { title: 'Requests', number: true }]}
      >
        {rows.map((row) => (
          <ExemptionRow key={row.name} row={row} status={status} />
        ))}
      </Table>
    </Panel>
  );
}

interface Row {
  name: string;
  requests: number;
  /** The exemption in the active policy; undefined if this policy does not have it. */
  exemption?: DeploymentStatus['exemptions'][number];
}

/** Returns the exemption with the most requests first. */
function toRows({ exemptions, traffic }: DeploymentStatus): Row[] {
  const listed = exemptions.map((exemption): Row => {
    const { name } = exemption;
    return { name, requests: traffic.by_exemption[name] ?? 0, exemption };
  });
  const names = new Set(exemptions.map(({ name }) => name));
  const others = Object.entries(traffic.by_exemption)
    .filter(([name]) => !names.has(name))
    .map(([name, requests]): Row => ({ name, requests }));
  return [...listed, ...others].sort((a, b) => b.requests - a.requests);
}

interface RowProps {
  row: Row;
  status: DeploymentStatus;
}

function ExemptionRow({ row: { name, requests, exemption }, status }: RowProps) {
  // Without the ledger, the counts are missing, but the exemption may have been used.
  const isKnown = status.ledger.reachable;
  return (
    <tr>
      <th scope="row">
        {name} {exemption && <span class="note">{exemption.reason}</span>}
      </th>
      <td>
        {exemption ? (
          <LastDay until={exemption.until} now={status.now} />
        ) : (
          <span class="note">not in the active policy</span>
        )}
      </td>
      <td class="number">
        {isKnown ? count(requests) : '–'}
        {isKnown && requests === 0 && <span class="note"> never matched</span>}
      </td>
    </tr>
  );
}

interface LastDayProps {
  /** End of the exemption, in seconds since the epoch. */
  until: number;
  /** Time of the status, in seconds since the epoch. */
  now: number;
}

/** The last day of an exemption in UTC, because the policy counts days in UTC. */
function LastDay({ until, now }: LastDayProps) {
  const last = new Date((until - 1) * 1000);
  return (
    <>
      {Number.isNaN(last.getTime()) ? 'an unknown day' : `${last.toISOString().slice(0, 10)} UTC`}
      {now >= until && <span class="bad"> expired</span>}
    </>
  );
}
