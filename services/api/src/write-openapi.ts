import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic } from '@lorasmith/storage';
import { openapiDocument } from './openapi/openapi-document.js';

const target = fileURLToPath(new URL('../../../openapi/openapi.json', import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-openapi-'));
try {
  await writeFileAtomic(target, await openapiDocument(folder));
  process.stdout.write(`${target}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
