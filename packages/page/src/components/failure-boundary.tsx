import type { ComponentChildren } from 'preact';
import { useErrorBoundary } from 'preact/hooks';
import { ErrorNotice } from './error-notice.js';

/** Says that its content failed, where otherwise it would stay as it was, or empty. */
export function FailureBoundary({ children }: { children: ComponentChildren }) {
  const [error, reset] = useErrorBoundary();
  if (error === undefined) return <>{children}</>;
  return <ErrorNotice error={error} what="This view failed: that is an error of the page" onRetry={reset} />;
}
