import './clusters.css';
import { ClusterDetail } from '../clusters/detail.tsx';
import { AllIndicators, ClusterList, Revocations } from '../clusters/list.tsx';
import { link } from '../router.ts';

export function Clusters({ params }: { params: URLSearchParams }) {
  const id = params.get('id');
  return (
    <>
      <div class="view-head">
        <h1>{id ? <>Cluster <span class="cluster-id">{id}</span></> : 'Clusters'}</h1>
        {id && <a href={link('clusters')}>All clusters</a>}
      </div>
      {id ? (
        <ClusterDetail key={id} id={id} />
      ) : (
        <div class="grid">
          <ClusterList />
          <AllIndicators correlation={params.get('correlation') ?? ''} />
          <Revocations />
        </div>
      )}
    </>
  );
}
