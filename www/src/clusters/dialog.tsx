import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** A modal dialog, shown as long as it is there. The browser keeps the focus in it, and gives it back. */
export function Dialog({ title, onClose, children }: { title: string; onClose(): void; children: ComponentChildren }) {
  const own = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    own.current?.showModal();
  }, []);
  return (
    <dialog ref={own} class="panel" aria-labelledby="dialog-title" onClose={onClose}>
      <div class="panel-head">
        <h2 id="dialog-title">{title}</h2>
        <span class="panel-end">
          <button type="button" onClick={() => own.current?.close()}>
            Close
          </button>
        </span>
      </div>
      {children}
    </dialog>
  );
}
