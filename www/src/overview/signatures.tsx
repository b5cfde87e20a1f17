import { useState } from 'preact/hooks';
import type { Series } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Empty } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { count, share } from '../format.ts';
import { link } from '../router.ts';
import { Spark, Trend } from './parts.tsx';
import { halves, requests, sum } from './series.ts';

const FEW = 10;
/** The API names no more. */
const MOST = 50;

export function Signatures({ series }: { series: Series }) {
  const [all, setAll] = useState(false);
  const { signatures } = series;
  const total = sum(requests(series));
  const more = signatures.length > FEW && (
    <button type="button" class="quiet" aria-expanded={all} onClick={() => setAll(!all)}>
      {all ? 'Show fewer' : signatures.length < MOST ? `Show all ${signatures.length}` : `Show the ${MOST} most frequent`}
    </button>
  );
  return (
    <Panel title="Top signatures and correlations" end={more} class="half">
      {signatures.length === 0 ? (
        <Empty>Nothing hit in this range.</Empty>
      ) : (
        <Table
          label="Signatures by hits"
          class="signatures"
          columns={['Name', { title: 'Hits', number: true }, { title: 'Share', number: true }, { title: 'Over time', hidden: true }, 'Trend']}
        >
          {signatures.slice(0, all ? undefined : FEW).map((row) => (
            <Row key={row.name} row={row} total={total} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

function Row({ row: { name, hits, points }, total }: { row: Series['signatures'][number]; total: number }) {
  const [first, second] = halves(points);
  return (
    <tr>
      <th scope="row">
        <a href={link('decisions', { signature: name })} title={`Decisions with ${name}`}>
          {name}
        </a>
      </th>
      <td class="number">{count(hits)}</td>
      <td class="number">{share(hits, total)}</td>
      <td class="spark-cell">
        <Spark points={points} />
      </td>
      <td class="nowrap">
        <Trend first={first} second={second} />
      </td>
    </tr>
  );
}
