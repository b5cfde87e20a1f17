import './clusters.css';
import { useEffect, useRef } from 'preact/hooks';
import { link } from '../router.ts';
import { ClusterDetail } from './detail.tsx';
import { AllIndicators, ClusterList, Revocations } from './list.tsx';

export function Clusters({ params }: { params: URLSearchParams }) {
  const id = params.get('id');
  const heading = useRef<HTMLHeadingElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    // The link that was followed is gone, so move the focus. (In a new view, the frame has done
    // so.)
    if (!isFirst.current) heading.current?.focus({ preventScroll: true });
    isFirst.current = false;
    // In a microtask, because the frame sets the title after this effect.
    queueMicrotask(() => (document.title = `${id ? `Cluster ${id}` : 'Clusters'} · Hedgerow`));
  }, [id]);
  return (
    <>
      <div class="view-head">
        <h1 tabIndex={-1} ref={heading}>
          {id ? (
            <>
              Cluster <span class="cluster-id">{id}</span>
            </>
          ) : (
            'Clusters'
          )}
        </h1>
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
