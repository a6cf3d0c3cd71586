// npm run check-alerts: checks docker/monitoring with promtool, which must be on the PATH or named by PROMTOOL.
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

const MONITORING_DIR = path.join(ROOT_DIR, 'docker/monitoring');

/** Finds promtool. @param {NodeJS.ProcessEnv} env @returns {string | null} the program, or null if there is none */
export function findPromtool(env) {
  const program = env.PROMTOOL || 'promtool';
  return spawnSync(program, ['--version']).status === 0 ? program : null;
}

/**
 * The queries in the panels of the dashboard.
 *
 * @returns {Promise<{ title: string, expression: string }[]>}
 */
export async function dashboardQueries() {
  const dashboard = JSON.parse(await readFile(path.join(MONITORING_DIR, 'grafana-dashboard.json'), 'utf8'));
  return dashboard.panels.flatMap(
    (/** @type {{ title: string, targets?: { expr: string }[] }} */ { title, targets = [] }) =>
      targets.map(({ expr }) => ({ title, expression: expr })),
  );
}

/**
 * Checks the configuration, the alert rules, their tests (alerts.test.yml) and the queries of the dashboard with promtool.
 *
 * @param {string} program
 * @returns {Promise<{ name: string, passed: boolean, output: string }[]>}
 */
export async function checkMonitoring(program) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-promtool-'));
  try {
    // promtool accepts a query only as a recording rule.
    const rules = (await dashboardQueries()).map(({ expression }, i) => ({
      record: `dashboard_${i}`,
      expr: expression,
    }));
    const queries = path.join(folder, 'dashboard.yml');
    await writeFile(queries, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    return [
      { name: 'prometheus.yml', args: ['check', 'config', '--syntax-only', 'prometheus.yml'] },
      { name: 'alerts.yml', args: ['check', 'rules', 'alerts.yml'] },
      { name: 'alerts.test.yml', args: ['test', 'rules', 'alerts.test.yml'] },
      { name: 'grafana-dashboard.json', args: ['check', 'rules', queries] },
    ].map(({ name, args }) => {
      const { status, stdout, stderr } = spawnSync(program, args, { cwd: MONITORING_DIR, encoding: 'utf8' });
      return { name, passed: status === 0, output: `${stdout}${stderr}`.trim() };
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
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
}
