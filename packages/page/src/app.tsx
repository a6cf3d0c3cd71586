import type { ComponentChildren } from 'preact';
import { useEffect, useErrorBoundary, useMemo, useRef, useState } from 'preact/hooks';
import { ErrorNotice } from './components/error-notice.js';
import { lazyView } from './components/lazy-view.js';
import { EndNotices, notify, Toasts } from './components/notices.js';
import { type View, ViewHead } from './components/view.js';
import { Link, useRoute } from './location.js';
import { matchPath } from './route.js';
import { RoleProvider, useMay } from './service/role.js';
import { clientWith, connection, leave, ServiceContext, session } from './service/service.js';
import { useStore } from './store.js';
import { chooseTheme, THEMES, type Theme, theme } from './theme.js';
import { AdapterView } from './views/adapters/adapter-view.js';
import { AdaptersView } from './views/adapters/adapters-view.js';
import { DatasetView } from './views/datasets/dataset-view.js';
import { DatasetsView } from './views/datasets/datasets-view.js';
import { JobView } from './views/job/job-view.js';
import { JobsView } from './views/jobs/jobs-view.js';
import { KeyEntry } from './views/key-entry.js';
import { NewJobView } from './views/new-job/new-job-view.js';

// Views that not every visit opens come when they are opened: test/site.test.ts bounds the first load.
const ChatView = lazyView(async () => (await import('./views/chat/chat-view.js')).ChatView);
const MachinesView = lazyView(async () => (await import('./views/machines-view.js')).MachinesView);
const ModelView = lazyView(async () => (await import('./views/models/model-view.js')).ModelView);
const ModelsView = lazyView(async () => (await import('./views/models/models-view.js')).ModelsView);
const SweepsView = lazyView(async () => (await import('./views/sweeps/sweeps-view.js')).SweepsView);
const SweepView = lazyView(async () => (await import('./views/sweeps/sweep-view.js')).SweepView);
const CompareView = lazyView(async () => (await import('./views/compare-view.js')).CompareView);
const ComparisonsView = lazyView(async () => (await import('./views/comparisons/comparisons-view.js')).ComparisonsView);
const ComparisonView = lazyView(async () => (await import('./views/comparisons/comparison-view.js')).ComparisonView);

/** Every view of the page. The first whose path matches is shown. */
const VIEWS: readonly View[] = [
  { path: '/jobs', View: JobsView },
  { path: '/jobs/:id', View: JobView },
  { path: '/sweeps', View: SweepsView },
  { path: '/sweeps/:id', View: SweepView },
  { path: '/compare', View: CompareView },
  { path: '/new-job', View: NewJobView },
  { path: '/datasets', View: DatasetsView },
  { path: '/datasets/:id', View: DatasetView },
  { path: '/models', View: ModelsView },
  { path: '/models/:name', View: ModelView },
  { path: '/adapters', View: AdaptersView },
  { path: '/adapters/:id', View: AdapterView },
  { path: '/comparisons', View: ComparisonsView },
  { path: '/comparisons/:id', View: ComparisonView },
  { path: '/chat', View: ChatView },
  { path: '/machines', View: MachinesView },
];

/** The view at the address of the page itself. */
const FIRST_PATH = '/jobs';

/** The views in the menu, and whether one is of no use to a key that only reads. */
const NAVIGATION: readonly { to: string; label: string; needsChange?: true }[] = [
  { to: '/jobs', label: 'Jobs' },
  { to: '/sweeps', label: 'Sweeps' },
  { to: '/new-job', label: 'New job', needsChange: true },
  { to: '/datasets', label: 'Datasets' },
  { to: '/models', label: 'Models' },
  { to: '/adapters', label: 'Adapters' },
  { to: '/comparisons', label: 'Comparisons' },
  { to: '/chat', label: 'Chat', needsChange: true },
  { to: '/machines', label: 'Machines' },
];

export function App() {
  const { key, needsKey } = useStore(session);
  const route = useRoute();
  // Another key sees other things, so everything that was read with the last one is dropped.
  const service = useMemo(() => ({ client: clientWith(key), connection }), [key]);
  const path = route.path === '/' ? FIRST_PATH : route.path;
  const found = VIEWS.flatMap((view) => {
    const params = matchPath(view.path, path);
    return params === null ? [] : [{ view, params }];
  })[0];
  return (
    <ServiceContext.Provider value={service}>
      <RoleProvider>
        <Layout path={path}>
          {needsKey ? (
            <KeyEntry refusedKey={key} />
          ) : found === undefined ? (
            <NotFound />
          ) : (
            <FailureBoundary key={`${key}${path}`}>
              <found.view.View params={found.params} query={route.query} />
            </FailureBoundary>
          )}
        </Layout>
      </RoleProvider>
      {!needsKey && <EndNotices />}
      <Toasts />
    </ServiceContext.Provider>
  );
}

const THEME_LABELS: Record<Theme, string> = { system: 'As the system', light: 'Light', dark: 'Dark' };

interface LayoutProps {
  path: string;
  children: ComponentChildren;
}

/** The frame of every view: navigation, theme, key, and the state of the connection. */
function Layout({ path, children }: LayoutProps) {
  const [isOpen, setOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  const { key } = useStore(session);
  const mayChange = useMay('change');
  const chosen = useStore(theme);
  useEffect(() => setOpen(false), [path]);
  return (
    <div class="layout">
      {/* biome-ignore lint/a11y/useValidAnchor: a skip link; a real fragment would be another view */}
      <a
        class="skip-link"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="side">
        <div class="brand-row">
          <Link to="/jobs" class="brand">
            Lorasmith
          </Link>
          <button
            type="button"
            class="menu-button"
            aria-expanded={isOpen}
            aria-controls="navigation"
            onClick={() => setOpen(!isOpen)}
          >
            Menu
          </button>
        </div>
        <div id="navigation" class={isOpen ? 'menu menu-open' : 'menu'}>
          <nav aria-label="Views">
            <ul>
              {NAVIGATION.filter(({ needsChange }) => mayChange || !needsChange).map(({ to, label }) => (
                <li key={to}>
                  <NavigationLink to={to} label={label} path={path} />
                </li>
              ))}
            </ul>
          </nav>
          <div class="side-foot">
            <label>
              Colours{' '}
              <select value={chosen} onChange={(event) => chooseTheme(event.currentTarget.value as Theme)}>
                {THEMES.map((one) => (
                  <option key={one} value={one}>
                    {THEME_LABELS[one]}
                  </option>
                ))}
              </select>
            </label>
            {key !== null && (
              <button type="button" onClick={leave}>
                Forget the key
              </button>
            )}
            <a href="docs">API documentation</a>
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <LostConnection />
        {children}
      </main>
    </div>
  );
}

function NavigationLink({ to, label, path }: { to: string; label: string; path: string }) {
  const isCurrent = path === to || path.startsWith(`${to}/`);
  return (
    <a href={`#${to}`} aria-current={isCurrent ? 'page' : undefined}>
      {label}
    </a>
  );
}

function LostConnection() {
  const { isLost, recoveries } = useStore(connection.state);
  useEffect(() => {
    if (recoveries > 0) notify('Connected again.');
  }, [recoveries]);
  return (
    <div role="status">
      {isLost && (
        <p class="notice notice-warning">
          The connection to the service is lost. What you see may be old. It is read again when the service answers.
        </p>
      )}
    </div>
  );
}

function NotFound() {
  return (
    <>
      <ViewHead title="There is no such view" />
      <p>
        The address may be wrong or incomplete. <Link to="/jobs">See the jobs</Link>
      </p>
    </>
  );
}

/** Says that its content failed, where otherwise it would stay as it was, or empty. */
function FailureBoundary({ children }: { children: ComponentChildren }) {
  const [error, reset] = useErrorBoundary();
  if (error === undefined) return <>{children}</>;
  return <ErrorNotice error={error} what="This view failed: that is an error of the page" onRetry={reset} />;
}
