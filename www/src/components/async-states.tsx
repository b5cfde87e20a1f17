// Components for the states of data from the API: loading, failed and empty. Each problem has a
// remedy.
import type { ComponentChildren } from 'preact';
import type { ApiError, Loaded } from '../api.ts';

interface ProblemProps {
  error: ApiError;
  retry?: () => void;
  /** Label of the button that calls `retry`. */
  action?: string;
}

/** Shows an error and its remedy. */
export function Problem({ error, retry, action = 'Try again' }: ProblemProps) {
  return (
    <div class="problem" role="alert">
      <p>
        <strong>{toSentence(error.message)}</strong> {toSentence(error.remedy)}
      </p>
      {retry && (
        <button type="button" onClick={retry}>
          {action}
        </button>
      )}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

/** A placeholder for content that is being loaded. */
export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div class="loading" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} />
      ))}
    </div>
  );
}

/**
 * A notice at the bottom of outdated data. It overlays the data, so that the layout does not move.
 */
export const StaleNotice = ({ children }: { children: ComponentChildren }) => (
  <div class="stale-notice">
    <div>{children}</div>
  </div>
);

interface AsyncProps<T> {
  loaded: Loaded<T> & { reload?: () => void };
  /** Number of lines of the placeholder. */
  lines?: number;
  children: (data: T) => ComponentChildren;
}

/** Shows loaded data, a placeholder or an error. After a failed update the old data stays. */
export function Async<T>({ loaded, lines, children }: AsyncProps<T>) {
  if (loaded.state === 'loading') return <Loading lines={lines} />;
  if (loaded.state === 'ready') return <>{children(loaded.data)}</>;
  const problem = <Problem error={loaded.error} retry={loaded.reload} />;
  if (loaded.data === undefined) return problem;
  return (
    <>
      {children(loaded.data)}
      <StaleNotice>{problem}</StaleNotice>
    </>
  );
}

function toSentence(text: string): string {
  if (!text) return '';
  const capitalised = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capitalised) ? capitalised : `${capitalised}.`;
}
