import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface Props {
  title: string;
  /** Whether the dialog stays open even if the user closes it. */
  busy?: boolean;
  onClose(): void;
  children: ComponentChildren;
}

/** A modal dialog, open while it is mounted. The browser traps the focus in it and restores it. */
export function Dialog({ title, busy = false, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      class="panel"
      aria-labelledby="dialog-title"
      onCancel={(event) => busy && event.preventDefault()}
      // After a second Escape, browsers close a dialog without a cancelable event. Opens it again
      // if busy.
      onClose={() => (busy ? dialog.current?.showModal() : onClose())}
    >
      <div class="panel-head">
        <h2 id="dialog-title">{title}</h2>
        <span class="panel-end">
          <button
            type="button"
            aria-disabled={busy}
            onClick={() => busy || dialog.current?.close()}
          >
            Close
          </button>
        </span>
      </div>
      {children}
    </dialog>
  );
}
