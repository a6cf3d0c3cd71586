import { useMemo } from 'preact/hooks';
import { EndNotices } from './components/end-notices.js';
import { FailureBoundary } from './components/failure-boundary.js';
import { Toasts } from './components/toasts.js';
import { Layout } from './layout.js';
import { useRoute } from './location.js';
import { matchPath } from './route.js';
import { RoleProvider } from './service/role.js';
import { clientWith, connection, ServiceContext } from './service/service.js';
import { session } from './service/session.js';
import { useStore } from './store.js';
import { KeyEntry } from './views/key-entry/key-entry.js';
import { NotFound } from './views/not-found.js';
import { FIRST_PATH, VIEWS } from './views/views.js';

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
