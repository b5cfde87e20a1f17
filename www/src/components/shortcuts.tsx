// Keyboard shortcuts of a view, and the dialog that lists them. Shortcuts of a single character can
// be switched off, because speech input and unsteady hands may press them by mistake (WCAG 2.1.4).
import { useEffect, useRef, useState } from 'preact/hooks';
import { tryStorage } from '../session.ts';
import { Dialog } from './dialog.tsx';

const OFF = 'hedgerow.shortcuts-off';
const areOff = () => tryStorage(() => localStorage.getItem(OFF)) !== null;

/** Returns whether the target of an event is an input, in which keys have a different meaning. */
const isInInput = ({ target }: Event) =>
  target instanceof Element &&
  target.closest('input:not([type=checkbox]), select, textarea') !== null;

/** Calls the action of a pressed key, except while the user types or a dialog is open. */
export function useShortcuts(actions: Readonly<Record<string, () => void>>) {
  const current = useRef(actions);
  current.current = actions;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { key, ctrlKey, metaKey, altKey } = event;
      if (ctrlKey || metaKey || altKey || isInInput(event)) return;
      if (document.querySelector('dialog[open]') || (key.length === 1 && areOff())) return;
      current.current[key]?.();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}

interface Props {
  /** Pairs of a key and its effect. */
  keys: readonly (readonly [string, string])[];
  onClose(): void;
}

export function ShortcutsDialog({ keys, onClose }: Props) {
  const [off, setOff] = useState(areOff);
  const change = (isOn: boolean) => {
    tryStorage(() => (isOn ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, '1')));
    setOff(!isOn);
  };
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="facts">
        {keys.map(([key, effect]) => (
          <>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{effect}</dd>
          </>
        ))}
      </dl>
      <label class="choice">
        <input
          type="checkbox"
          checked={!off}
          onChange={(event) => change(event.currentTarget.checked)}
        />{' '}
        Use shortcuts of a single character
      </label>
    </Dialog>
  );
}
