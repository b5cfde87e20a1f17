import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** A modal dialog, shown as long as it is there. The browser keeps the focus in it, and gives it back. While it is busy it stays. */
export function Dialog({ title, busy = false, onClose, children }: { title: string; busy?: boolean; onClose(): void; children: ComponentChildren }) {
  const own = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    own.current?.showModal();
  }, []);
  return (
    <dialog
      ref={own}
      class="panel"
      aria-labelledby="dialog-title"
      onCancel={(event) => busy && event.preventDefault()}
      // Who presses Escape twice is not asked whether to cancel.
      onClose={() => (busy ? own.current?.showModal() : onClose())}
    >
      <div class="panel-head">
        <h2 id="dialog-title">{title}</h2>
        <span class="panel-end">
          <button type="button" aria-disabled={busy} onClick={() => busy || own.current?.close()}>
            Close
          </button>
        </span>
      </div>
      {children}
    </dialog>
  );
}
