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
    // Moves the focus, because the link that the user followed has disappeared. (When a view opens,
    // the frame in app.tsx moves the focus.)
    if (!isFirst.current) heading.current?.focus({ preventScroll: true });
    isFirst.current = false;
    // Sets the title in a microtask, because the frame sets its title after this effect.
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
