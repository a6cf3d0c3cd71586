// node health-check.mjs URL: exits with 0 when it answers 200.
try {
  const response = await fetch(process.argv[2], { signal: AbortSignal.timeout(4_000) });
  if (response.ok) process.exit(0);
  console.error(`${response.status} ${(await response.text()).slice(0, 500)}`);
} catch (error) {
  console.error(error.cause?.message ?? error.message);
}
process.exit(1);
