import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ErrorNotice } from './error-notice.js';
import type { ViewProps } from './view.js';

/**
 * A view whose code is loaded when it is first opened, and not with the page.
 * @param load - Imports it, again after a failure.
 */
export function lazyView(load: () => Promise<ComponentType<ViewProps>>): ComponentType<ViewProps> {
  let loaded: ComponentType<ViewProps> | null = null;
  return function LazyView(props: ViewProps) {
    const [View, setView] = useState(() => loaded);
    const [error, setError] = useState<unknown>(null);
    const [attempt, setAttempt] = useState(0);
    useEffect(() => {
      if (View !== null) return undefined;
      let isLeft = false;
      load().then(
        (found) => {
          loaded = found;
          if (!isLeft) setView(() => found);
        },
        (cause: unknown) => {
          if (!isLeft) setError(cause);
        },
      );
      return () => {
        isLeft = true;
      };
    }, [attempt]);
    if (View !== null) return <View {...props} />;
    if (error === null) return <p class="loading">Loading the view …</p>;
    return (
      <ErrorNotice
        error={error}
        what="The view could not be loaded. If the service was replaced, load the page again"
        onRetry={() => {
          setError(null);
          setAttempt(attempt + 1);
        }}
      />
    );
  };
}
