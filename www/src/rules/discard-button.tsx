// A button that discards changes after a confirmation.
import { useEffect, useRef, useState } from 'preact/hooks';

interface Props {
  /** Names the changes, such as “this change”. */
  subject: string;
  onDiscard(): void;
}

export function DiscardButton({ subject, onDiscard }: Props) {
  /** Null before the first click. */
  const [isConfirming, setIsConfirming] = useState<boolean | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => setIsConfirming(null), [subject]);
  // Moves the focus to the new button, because a click replaces the button.
  useEffect(() => {
    if (isConfirming !== null) button.current?.focus();
  }, [isConfirming]);
  if (!isConfirming) {
    return (
      <button key="ask" type="button" ref={button} onClick={() => setIsConfirming(true)}>
        Discard {subject}
      </button>
    );
  }
  const discard = () => {
    onDiscard();
    document.getElementById('main')?.focus({ preventScroll: true });
  };
  return (
    <span key="confirm" class="row" role="group" aria-label={`Discard ${subject}?`}>
      <button type="button" class="danger" ref={button} onClick={discard}>
        Yes, discard {subject}
      </button>
      <button type="button" class="quiet" onClick={() => setIsConfirming(false)}>
        Keep
      </button>
    </span>
  );
}
