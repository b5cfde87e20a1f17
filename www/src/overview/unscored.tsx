import type { DeploymentStatus, Loaded } from '../api.ts';
import { Empty, Loading } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { Panel } from '../components/ui.tsx';
import { count, share } from '../format.ts';

/** Reasons why a part of a request was not scored. */
export const REASONS: Record<string, string> = {
  late: 'the upload stopped or was too slow',
  crowded: 'other bodies needed the memory',
  window: 'larger than a limit of [scan]',
  encoding: 'not decoded, or not to its end',
  opaque: 'a binary format',
  costly: 'too expensive to read',
  attachment: 'pictures, audio or other media',
  unknown_path: 'the path is not a known endpoint',
  websocket: 'a WebSocket that was passed on',
};

/** Requests that were not completely scored, and requests that were forwarded unread. */
export function Unscored({ range }: { range: Loaded<DeploymentStatus> }) {
  const traffic = range.state === 'loading' ? undefined : range.data?.traffic;
  if (!traffic) {
    return (
      <Panel title="Not scored" class="half">
        <Loading lines={4} />
      </Panel>
    );
  }
  const { requests, incomplete, by_unscored, forwarded_unread } = traffic;
  const reasons = Object.entries(by_unscored).sort(([, a], [, b]) => b - a);
  return (
    <Panel title="Not scored" class="half">
      <p>
        {incomplete === 0
          ? 'Every request was scored whole.'
          : `${share(incomplete, requests)} of the requests were not scored whole.`}
      </p>
      {reasons.length > 0 && (
        <Table label="Reasons" columns={['Reason', { title: 'Requests', number: true }]}>
          {reasons.map(([reason, requestCount]) => (
            <tr key={reason}>
              <td>
                {reason} <span class="note">{REASONS[reason]}</span>
              </td>
              <td class="number">{count(requestCount)}</td>
            </tr>
          ))}
        </Table>
      )}
      <h3>Forwarded unread</h3>
      {forwarded_unread.length === 0 ? (
        <Empty>No request with a body was forwarded unread.</Empty>
      ) : (
        <Table
          label="Requests that were forwarded unread"
          columns={['Method and path', { title: 'Requests', number: true }]}
        >
          {forwarded_unread.map(({ method, path, count: requestCount }) => (
            <tr key={`${method} ${path}`}>
              <td>
                <code class="breakable">
                  {method} {path}
                </code>
              </td>
              <td class="number">{count(requestCount)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}
