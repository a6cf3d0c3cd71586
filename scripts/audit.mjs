// npm run audit: known vulnerabilities among the dependencies of the product. Exit code 1: there are some, 2: the registry did not answer.
import { cacheDir } from './setup/locations.mjs';
import { runAsCommand } from './setup.mjs';
import { auditDependencies, reportAudit } from './test-run/audit-dependencies.mjs';

await runAsCommand(async () => {
  const audit = await auditDependencies({ cache: cacheDir(process.env), env: process.env });
  if (!reportAudit(audit)) return 1;
  return audit.result === 'unknown' ? 2 : 0;
});
