// npm run audit: checks the product's dependencies for known vulnerabilities. Exits with 1 if there are some, with 2 if the
// registry did not answer.
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { auditDependencies, reportAudit } from './test-run/audit-dependencies.mjs';

await runAsCommand(async () => {
  const audit = await auditDependencies({ cache: cacheDir(process.env), env: process.env });
  if (!reportAudit(audit)) return 1;
  return audit.result === 'unknown' ? 2 : 0;
});
