import type { ComponentChildren } from 'preact';

interface Props {
  accept: string;
  onFile: (file: File) => void;
  children: ComponentChildren;
}

/** A button that opens a file. */
export function FileButton({ accept, onFile, children }: Props) {
  return (
    <label class="button file-button">
      <input
        type="file"
        class="visually-hidden"
        accept={accept}
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) onFile(file);
          // Resets the input, so that the same file can be opened again after a change.
          event.currentTarget.value = '';
        }}
      />
      {children}
    </label>
  );
}
