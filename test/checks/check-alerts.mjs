// npm run check-alerts: checks docker/monitoring with promtool, which must be on the PATH or named by PROMTOOL.
import { checkMonitoring, findPromtool } from './monitoring/promtool.mjs';

const promtool = findPromtool(process.env);
if (promtool === null) {
  console.error('promtool was not found. It is part of Prometheus. Add it to the PATH, or set PROMTOOL to its path.');
  process.exit(1);
}
const results = await checkMonitoring(promtool);
for (const { name, passed, output } of results) console.log(`${passed ? 'ok' : 'not ok'} - ${name}\n${output}\n`);
const failed = results.filter(({ passed }) => !passed).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
