// The changes from the released rules to the edited rules.
import { ApiError } from '../api.ts';
import { Empty, Loading, Problem } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { Panel } from '../components/ui.tsx';
import type { DiffResult } from './bundle-diff.ts';

interface Props {
  /** Description of the rules that the edited rules are compared with. */
  baseline: string;
  diff: DiffResult;
  /** Whether the edited rules have been built. */
  isBuilt: boolean;
}

export function DiffView({ baseline, diff, isBuilt }: Props) {
  return (
    <Panel title="Diff" note={`compared with ${baseline}`}>
      {isBuilt ? (
        <Content diff={diff} />
      ) : (
        <Empty>The diff is shown when the check has finished without problems.</Empty>
      )}
    </Panel>
  );
}

function Content({ diff }: { diff: DiffResult }) {
  if (!diff) return <Loading lines={2} />;
  if (diff instanceof ApiError) return <Problem error={diff} />;
  if (!diff.rows.length) {
    return (
      <Empty>
        The edited rules make the same decisions. Descriptions, comments and exemplars do not change
        decisions.
      </Empty>
    );
  }
  return (
    <Table label="Changes" columns={['Change', 'Name', 'From → to']}>
      {diff.rows.map(({ kind, name, detail }) => (
        <tr key={`${kind} ${name}`}>
          <td>{kind}</td>
          <th scope="row">{name}</th>
          <td>{detail}</td>
        </tr>
      ))}
    </Table>
  );
}
