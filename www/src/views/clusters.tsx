import './clusters.css';
import { useEffect, useRef } from 'preact/hooks';
import { ClusterDetail } from '../clusters/detail.tsx';
import { AllIndicators, ClusterList, Revocations } from '../clusters/list.tsx';
import { link } from '../router.ts';

export function Clusters({ params }: { params: URLSearchParams }) {
  const id = params.get('id');
  const head = useRef<HTMLHeadingElement>(null);
  const first = useRef(true);
  useEffect(() => {
    // The link that was followed is gone; where the view is new, the frame has set the focus.
    if (!first.current) head.current?.focus({ preventScroll: true });
    first.current = false;
    // After the frame has named the view.
    queueMicrotask(() => (document.title = `${id ? `Cluster ${id}` : 'Clusters'} · Hedgerow`));
  }, [id]);
  return (
    <>
      <div class="view-head">
        <h1 tabIndex={-1} ref={head}>{id ? <>Cluster <span class="cluster-id">{id}</span></> : 'Clusters'}</h1>
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
