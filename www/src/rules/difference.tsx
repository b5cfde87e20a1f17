// What the edited rules would change, against what is released.
import { ApiError } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Empty, Loading, Problem } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import type { Compared } from './changes.ts';

interface Props {
  /** What it is compared with, in words. */
  what: string;
  compared: Compared;
  /** Whether there are rules to compare. */
  isBuilt: boolean;
}

export function Difference({ what, compared, isBuilt }: Props) {
  return (
    <Panel title="Difference" note={`against ${what}`}>
      {isBuilt ? <Body compared={compared} /> : <Empty>What changes is shown here when the check is done and there is nothing to mend.</Empty>}
    </Panel>
  );
}

function Body({ compared }: { compared: Compared }) {
  if (!compared) return <Loading lines={2} />;
  if (compared instanceof ApiError) return <Problem error={compared} />;
  if (!compared.rows.length) return <Empty>These rules decide the same. Descriptions, comments and exemplars change no decision.</Empty>;
  return (
    <Table label="What changes" columns={['Change', 'What', 'From → to']}>
      {compared.rows.map(({ kind, name, detail }) => (
        <tr key={`${kind} ${name}`}>
          <td>{kind}</td>
          <th scope="row">{name}</th>
          <td>{detail}</td>
        </tr>
      ))}
    </Table>
  );
}
