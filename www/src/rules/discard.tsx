// Forgetting changes, which is asked about once more.
import { useEffect, useRef, useState } from 'preact/hooks';

export function Discard({ what, onDiscard }: { what: string; onDiscard(): void }) {
  const [asking, ask] = useState<boolean | null>(null);
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => ask(null), [what]);
  // The button that was pressed makes way for another, which takes its focus.
  useEffect(() => {
    if (asking !== null) first.current?.focus();
  }, [asking]);
  if (!asking)
    return (
      <button key="ask" type="button" ref={first} onClick={() => ask(true)}>
        Discard {what}
      </button>
    );
  const forget = () => {
    onDiscard();
    document.getElementById('main')?.focus({ preventScroll: true });
  };
  return (
    <span key="sure" class="row" role="group" aria-label={`Discard ${what}?`}>
      <button type="button" class="danger" ref={first} onClick={forget}>
        Yes, discard {what}
      </button>
      <button type="button" class="quiet" onClick={() => ask(false)}>
        Keep
      </button>
    </span>
  );
}
