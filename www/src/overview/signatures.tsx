import { useState } from 'preact/hooks';
import type { Series } from '../api.ts';
import { Empty } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { Name, Panel } from '../components/ui.tsx';
import { count, share } from '../format.ts';
import { linkToHits } from '../range.ts';
import { Change, type Earlier } from './compare.tsx';
import { requests, sum } from './series.ts';
import { Spark } from './spark.tsx';

/** Number of rows that are shown before the user clicks “Show all”. */
const COLLAPSED_ROWS = 10;
/** The API returns at most this number of signatures. */
const MAX_SIGNATURES = 50;

interface Props {
  series: Series;
  earlier: Earlier | undefined;
}

/** The signatures, lists and correlations with the most hits. */
export function Signatures({ series, earlier }: Props) {
  const [all, setAll] = useState(false);
  const { signatures } = series;
  const total = sum(requests(series));
  const isCut = signatures.length >= MAX_SIGNATURES;
  const showAll = isCut
    ? `Show the ${MAX_SIGNATURES} most frequent`
    : `Show all ${signatures.length}`;
  const toggle = signatures.length > COLLAPSED_ROWS && (
    <button type="button" class="quiet" aria-expanded={all} onClick={() => setAll(!all)}>
      {all ? 'Show fewer' : showAll}
    </button>
  );
  return (
    <Panel title="Top signatures and correlations" end={toggle} class="half">
      {signatures.length === 0 ? (
        <Empty>No signature hit in this range.</Empty>
      ) : (
        <Table
          label="Signatures by hits"
          class="signatures"
          columns={[
            'Name',
            { title: 'Hits', number: true },
            { title: 'Share', number: true },
            { title: 'Over time', hidden: true },
            ...(earlier ? ['Change'] : []),
          ]}
        >
          {signatures.slice(0, all ? undefined : COLLAPSED_ROWS).map((signature) => (
            <Row key={signature.name} {...{ signature, total, series, earlier }} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

interface RowProps extends Props {
  signature: Series['signatures'][number];
  /** Number of all requests. */
  total: number;
}

function Row({ signature: { name, hits, points }, total, series, earlier }: RowProps) {
  const earlierList = earlier?.series.signatures ?? [];
  const known = earlierList.find((other) => other.name === name)?.points;
  // A name that is missing in a full list may have had hits.
  const before = known ?? (earlierList.length < MAX_SIGNATURES ? [] : undefined);
  return (
    <tr>
      <th scope="row">
        <a href={linkToHits(name)} title={`Decisions with ${name}`}>
          <Name>{name}</Name>
        </a>
      </th>
      <td class="number">{count(hits)}</td>
      <td class="number">{share(hits, total)}</td>
      <td class="spark-cell">
        <Spark points={points} />
      </td>
      {earlier && (
        <td>
          <Change {...{ series, earlier, before }} now={points} />
        </td>
      )}
    </tr>
  );
}
