import type { ComponentChildren } from 'preact';

/** A button that asks for a file. The same file can be chosen again after it was changed. */
export function FileButton({ accept, onFile, children }: { accept: string; onFile: (file: File) => void; children: ComponentChildren }) {
  return (
    <label class="button file-button">
      <input
        type="file"
        class="visually-hidden"
        accept={accept}
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) onFile(file);
          event.currentTarget.value = '';
        }}
      />
      {children}
    </label>
  );
}
