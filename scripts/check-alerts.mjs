// npm run check-alerts: what Prometheus' own checker says of docker/monitoring. Needs promtool on the PATH, or PROMTOOL.
import { checkMonitoring, findPromtool } from './monitoring/promtool.mjs';

const promtool = findPromtool(process.env);
if (promtool === null) {
  console.error('There is no promtool. It comes with Prometheus; put it on the PATH, or name it by PROMTOOL.');
  process.exit(1);
}
const results = await checkMonitoring(promtool);
for (const { name, passed, output } of results) console.log(`${passed ? 'ok' : 'not ok'} - ${name}\n${output}\n`);
const failed = results.filter(({ passed }) => !passed).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
