import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { auditDependencies, reportAudit } from '../checks/audit.mjs';

/** Runs the real pnpm against a registry with this answer. */
async function auditWith(status: number, body: object) {
  const server = createServer((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    return await auditDependencies({ cache: cacheDir(process.env), env: process.env, registry });
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const report = (advisories: object) => ({
  actions: [],
  advisories,
  muted: [],
  metadata: { vulnerabilities: { info: 0, low: 0, moderate: 0, high: 0, critical: 0 } },
});
const advisory = (severity: string) => ({
  id: 1,
  module_name: 'left-pad',
  severity,
  vulnerable_versions: '<2.0.0',
  patched_versions: '>=2.0.0',
  title: 'Pads wrongly',
  url: 'https://example.org/1',
  findings: [{ version: '1.0.0', paths: ['services/api>left-pad'] }],
});

test('an audit names vulnerable packages, and ignores low severities', async () => {
  const vulnerable = await auditWith(200, report({ 1: advisory('high') }));
  expect(vulnerable).toEqual({
    result: 'vulnerable',
    advisories: ['left-pad <2.0.0: high: Pads wrongly (https://example.org/1)'],
  });
  expect(reportAudit(vulnerable)).toBe(false);
  expect(await auditWith(200, report({ 1: advisory('low') }))).toEqual({ result: 'clean' });
});

test('without an answer, the result is neither clean nor a failure', async () => {
  const audit = await auditWith(405, {});
  expect(audit).toMatchObject({ result: 'unknown', why: expect.stringContaining('405') });
  expect(reportAudit(audit)).toBe(true);
});
