// The frame: where one can go, whose token it is, light or dark.
import type { ComponentType } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Boundary } from './components/boundary.tsx';
import { SignIn } from './components/signin.tsx';
import { ThemeSwitch } from './components/theme.tsx';
import { link, type Place, usePlace } from './router.ts';
import { setToken, useToken } from './session.ts';
import { Clusters } from './views/clusters.tsx';
import { Decisions } from './views/decisions.tsx';
import { Overview } from './views/overview.tsx';
import { Playground } from './views/playground.tsx';
import { Rules } from './views/rules.tsx';

interface View {
  name: string;
  title: string;
  /** Whether it shows what only a token opens. */
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

export function App() {
  const place = usePlace();
  const own = useToken();
  // Without a token there is most to see in the playground.
  const view = VIEWS.find(({ name }) => name === place.view) ?? VIEWS.find(({ name }) => name === (own ? 'overview' : 'playground'))!;
  const open = !view.needsToken || own !== null;
  const main = useRef<HTMLElement>(null);
  const shown = useRef('');
  useEffect(() => {
    document.title = `${view.title} · Hedgerow`;
    // Who moves by keyboard goes on from the new view's start, and from there when what had the focus is gone: signing in and out.
    const lost = document.activeElement === document.body;
    if (shown.current && main.current && (lost || shown.current !== view.name)) begin(main.current);
    shown.current = view.name;
  }, [view.name, own]);
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
          <Mark /> Hedgerow
        </a>
        <nav aria-label="Views">
          {VIEWS.map(({ name, title }) => (
            <a key={name} href={link(name)} aria-current={name === view.name ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <div class="top-end">
          {own && (
            <button type="button" class="quiet" onClick={() => setToken(null)}>
              Sign out
            </button>
          )}
          <ThemeSwitch />
        </div>
      </header>
      <main id="main" tabIndex={-1} ref={main}>
        <Boundary key={`${view.name} ${open}`} title={view.title} place={place}>
          <Body view={view} place={place} open={open} />
        </Boundary>
      </main>
    </>
  );
}

/** Puts the focus on the view's heading; on its room where none is there yet. */
function begin(main: HTMLElement) {
  const heading = main.querySelector('h1');
  if (heading) heading.tabIndex = -1;
  (heading ?? main).focus({ preventScroll: true });
}

function Body({ view, place, open }: { view: View; place: Place; open: boolean }) {
  if (!open) return <SignIn title={view.title} />;
  const Own = view.body;
  return <Own params={place.params} />;
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M6 24V15m5 9V10m5 14V7m5 17V10m5 14v-9M4 18h24" />
    </svg>
  );
}
