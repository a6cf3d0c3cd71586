// node health-check.mjs URL: exits with 0 if URL answers with a status of success.
const [url = ''] = process.argv.slice(2);
try {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (response.ok) process.exit(0);
  console.error(`${response.status} ${(await response.text()).slice(0, 500)}`);
} catch (error) {
  console.error(error instanceof Error ? (error.cause ?? error) : error);
}
process.exit(1);
