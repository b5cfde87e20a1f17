// Shows in every view that enforcement is stopped.
import type { DeploymentStatus } from '../api.ts';
import { Time } from './ui.tsx';

/** Shows a banner while a stop is in force, or while MODE_CEILING is Shadow. */
export function StopBanner({ status }: { status: DeploymentStatus }) {
  const { stop, mode_ceiling: ceiling } = status;
  if (!stop && ceiling !== 'shadow') return null;
  return (
    <div class="stop-banner" role="alert">
      {ceiling === 'shadow' && (
        <p>
          <strong>Enforcement is stopped</strong> for all requests, by the variable{' '}
          <code>MODE_CEILING</code>.
        </p>
      )}
      {stop && <Stop {...stop} />}
    </div>
  );
}

function Stop({ stop, published, problem }: NonNullable<DeploymentStatus['stop']>) {
  return (
    <p>
      <strong>Enforcement is stopped</strong> for{' '}
      {stop.paths.length === 0 ? 'all requests' : <code>{stop.paths.join(' ')}</code>} since{' '}
      <Time at={stop.at * 1000} />, by {stop.author || 'an unnamed author'}: {stop.reason}.{' '}
      {published ? null : `Isolates still enforce: ${problem ?? 'the stop is being written'}. `}
      <code>hedgerow resume</code> ends it.
    </p>
  );
}
