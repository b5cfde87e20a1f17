// What stands where there is nothing to show yet, or no more: always with what to do.
import type { ComponentChildren } from 'preact';
import type { ApiError, Loaded } from '../api.ts';

/** Says what is wrong and what to do about it. */
export function Problem({ error, retry, action = 'Try again' }: { error: ApiError; retry?: () => void; action?: string }) {
  return (
    <div class="problem" role="alert">
      <p>
        <strong>{sentence(error.message)}</strong> {sentence(error.remedy)}
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

/** Holds the place of what is being loaded, so that nothing jumps when it comes. */
export function Loading({ lines = 4 }: { lines?: number }) {
  return (
    <div class="loading" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} />
      ))}
    </div>
  );
}

/** Lies over the foot of what it is about, so that nothing moves when it comes and goes. */
export const Over = ({ children }: { children: ComponentChildren }) => (
  <div class="over">
    <div>{children}</div>
  </div>
);

/** What was loaded; or that it is being loaded, or why not. Old data stays, below the problem. */
export function Shown<T>({ loaded, lines, children }: { loaded: Loaded<T> & { reload?: () => void }; lines?: number; children: (data: T) => ComponentChildren }) {
  if (loaded.state === 'loading') return <Loading lines={lines} />;
  if (loaded.state === 'ready') return <>{children(loaded.data)}</>;
  const problem = <Problem error={loaded.error} retry={loaded.reload} />;
  if (loaded.data === undefined) return problem;
  return (
    <>
      {children(loaded.data)}
      <Over>{problem}</Over>
    </>
  );
}

function sentence(text: string): string {
  if (!text) return '';
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
