import { useEffect, useState } from 'preact/hooks';
import { tryStorage } from '../session.ts';

const KEY = 'hedgerow.theme';
type Theme = 'system' | 'light' | 'dark';
const NEXT: Record<Theme, Theme> = { system: 'light', light: 'dark', dark: 'system' };

function storedTheme(): Theme {
  const value = tryStorage(() => localStorage.getItem(KEY));
  return value === 'light' || value === 'dark' ? value : 'system';
}

/** Switches between the light theme, the dark theme and the theme of the system. */
export function ThemeSwitch() {
  const [theme, setTheme] = useState(storedTheme);
  useEffect(() => {
    if (theme === 'system') {
      tryStorage(() => localStorage.removeItem(KEY));
      delete document.documentElement.dataset.theme;
    } else {
      tryStorage(() => localStorage.setItem(KEY, theme));
      document.documentElement.dataset.theme = theme;
    }
  }, [theme]);
  return (
    <button
      type="button"
      class="quiet"
      onClick={() => setTheme(NEXT[theme])}
      aria-label={`Theme: ${theme}. Change to ${NEXT[theme]}`}
      title={`Theme: ${theme}`}
    >
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.2" fill="none" stroke="currentColor" stroke-width="1.6" />
        {theme !== 'light' && (
          <path
            d={
              theme === 'dark'
                ? 'M8 1.8a6.2 6.2 0 1 1 0 12.4a6.2 6.2 0 1 1 0-12.4'
                : 'M8 1.8a6.2 6.2 0 0 1 0 12.4z'
            }
            fill="currentColor"
          />
        )}
      </svg>
    </button>
  );
}
