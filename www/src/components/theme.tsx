import { useEffect, useState } from 'preact/hooks';
import { attempt } from '../session.ts';

const KEY = 'hedgerow.theme';
type Theme = 'system' | 'light' | 'dark';
const NEXT: Record<Theme, Theme> = { system: 'light', light: 'dark', dark: 'system' };

function stored(): Theme {
  const value = attempt(() => localStorage.getItem(KEY));
  return value === 'light' || value === 'dark' ? value : 'system';
}

/** Light, dark, or as the system has it. */
export function ThemeSwitch() {
  const [theme, set] = useState(stored);
  useEffect(() => {
    if (theme === 'system') {
      attempt(() => localStorage.removeItem(KEY));
      delete document.documentElement.dataset.theme;
    } else {
      attempt(() => localStorage.setItem(KEY, theme));
      document.documentElement.dataset.theme = theme;
    }
    // Charts are painted, and have to be painted again.
    dispatchEvent(new Event('hedgerow:theme'));
  }, [theme]);
  return (
    <button type="button" class="quiet" onClick={() => set(NEXT[theme])} aria-label={`Theme: ${theme}. Change to ${NEXT[theme]}`} title={`Theme: ${theme}`}>
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.6" />
        {theme !== 'light' && <path d={theme === 'dark' ? 'M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4' : 'M8 1.8a6.2 6.2 0 0 1 0 12.4z'} fill="currentColor" />}
      </svg>
    </button>
  );
}
