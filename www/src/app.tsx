// The frame of the page: navigation, sign-out and theme.
import type { ComponentType } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Clusters } from './clusters/index.tsx';
import { type DeploymentStatus, latest, useApi } from './api.ts';
import { Boundary } from './components/boundary.tsx';
import { ClockSwitch } from './components/clock-switch.tsx';
import { ModeBadge } from './components/mode-badge.tsx';
import { SignIn } from './components/sign-in.tsx';
import { StopBanner } from './components/stop-banner.tsx';
import { ThemeSwitch } from './components/theme-switch.tsx';
import { Decisions } from './decisions/index.tsx';
import { Overview } from './overview/index.tsx';
import { Playground } from './playground/index.tsx';
import { link, type Location, useLocation } from './router.ts';
import { Rules } from './rules/index.tsx';
import { setToken, useToken } from './session.ts';
import { useUtc } from './time.ts';

interface View {
  name: string;
  title: string;
  needsToken: boolean;
  body: ComponentType<{ params: URLSearchParams }>;
}

const VIEWS: readonly View[] = [
  { name: 'overview', title: 'Overview', needsToken: true, body: Overview },
  { name: 'decisions', title: 'Decisions', needsToken: true, body: Decisions },
  { name: 'clusters', title: 'Clusters', needsToken: true, body: Clusters },
  { name: 'playground', title: 'Playground', needsToken: false, body: Playground },
  { name: 'rules', title: 'Rules', needsToken: false, body: Rules },
];

/** Seconds between two requests for the status, which shows mode and stop. */
const STATUS_SECONDS = 30;

const viewOf = (wanted: string) => VIEWS.find(({ name }) => name === wanted);

export function App() {
  const location = useLocation();
  const token = useToken();
  // Renders all times again when the clock is switched.
  useUtc();
  const current = latest(useApi<DeploymentStatus>('/status', STATUS_SECONDS));
  const status = token ? current : undefined;
  // Without a token, the playground is the most useful view.
  const view = viewOf(location.view) ?? viewOf(token ? 'overview' : 'playground')!;
  const open = !view.needsToken || token !== null;
  const main = useRef<HTMLElement>(null);
  const shownView = useRef('');
  useEffect(() => {
    document.title = `${view.title} · Hedgerow`;
    // Moves the focus to the start of a new view. If the focused element disappears, as after
    // signing in or out, moves the focus to the start of the current view. Keyboard users then
    // continue there.
    const isFocusLost = document.activeElement === document.body;
    if (shownView.current && main.current && (isFocusLost || shownView.current !== view.name)) {
      focusStart(main.current);
    }
    shownView.current = view.name;
  }, [view.name, token]);
  const skip = (event: Event) => {
    event.preventDefault();
    main.current?.focus();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href={link('overview')}>
          <Logo /> Hedgerow
        </a>
        <nav aria-label="Views">
          {VIEWS.map(({ name, title }) => (
            <a key={name} href={link(name)} aria-current={name === view.name ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <div class="top-end">
          {status && <ModeBadge status={status} />}
          {token && (
            <button type="button" class="quiet" onClick={() => setToken(null)}>
              Sign out
            </button>
          )}
          <ClockSwitch />
          <ThemeSwitch />
        </div>
      </header>
      {status && <StopBanner status={status} />}
      <main id="main" tabIndex={-1} ref={main}>
        <Boundary key={`${view.name} ${open}`} title={view.title} location={location}>
          <Body view={view} location={location} open={open} />
        </Boundary>
      </main>
    </>
  );
}

/** Focuses the heading of the view, or `main` if the heading is not rendered yet. */
function focusStart(main: HTMLElement) {
  const heading = main.querySelector('h1');
  if (heading) heading.tabIndex = -1;
  (heading ?? main).focus({ preventScroll: true });
}

function Body({ view, location, open }: { view: View; location: Location; open: boolean }) {
  if (!open) return <SignIn title={view.title} />;
  const ViewBody = view.body;
  return <ViewBody params={location.params} />;
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M6 24V15m5 9V10m5 14V7m5 17V10m5 14v-9M4 18h24" />
    </svg>
  );
}
