// The hub of npm run compose-smoke: node local-hub.mjs HOST PORT REPO TOKEN serves a small base model, on the paths of the
// Hugging Face hub, to every client that sends the token. Runs in a container with Node 24, which reads TypeScript.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { writeTinyLlama } from '../../tiny-llama.mjs';

/** @type {typeof import('../../hub-server.js')} */
const { filesOf, hubRepo, startHubServer } = await import(new URL('../../hub-server.ts', import.meta.url).href);

const [host, port, repo = '', token = ''] = process.argv.slice(2);
const folder = await mkdtemp(path.join(tmpdir(), 'model-'));
await writeTinyLlama(folder);
const hub = await startHubServer({ host, port: Number(port) });
hub.repos.set(repo, hubRepo(await filesOf(folder), { token, gated: true }));
console.log(`The hub is at ${hub.url}.`);
