import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

export const MONITORING_DIR = path.join(ROOT_DIR, 'docker/monitoring');

/** Of Prometheus' own checker. @param {NodeJS.ProcessEnv} env @returns {string | null} its program, where there is one */
export function findPromtool(env) {
  const program = env.PROMTOOL || 'promtool';
  return spawnSync(program, ['--version']).status === 0 ? program : null;
}

/**
 * What is asked in the panels of the dashboard.
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
 * Has promtool check the configuration, the alert rules, what they do (alerts.test.yml), and the queries of the dashboard.
 *
 * @param {string} program
 * @returns {Promise<{ name: string, passed: boolean, output: string }[]>}
 */
export async function checkMonitoring(program) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-promtool-'));
  try {
    // A recording rule is the only form in which promtool reads a query.
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
