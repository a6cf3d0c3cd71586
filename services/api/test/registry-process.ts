import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type RegistryAddress, registryAt } from '../src/adapters/registry-client.js';

// The compiled process, as it is deployed.
const REGISTRY_MAIN = fileURLToPath(new URL('../../registry/dist/main.js', import.meta.url));

/** Starts a registry with the data and models of the folder, and waits until it listens. */
export async function startRegistry(folder: string): Promise<{ process: ChildProcess; address: RegistryAddress }> {
  const child = spawn(process.execPath, [REGISTRY_MAIN], {
    env: { PATH: process.env.PATH, DATA_DIR: folder, MODELS_DIR: `${folder}/models`, REGISTRY_PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface(child.stdout!)) {
    const address = line.match(/listening at (http:\/\/[^"]+)/)?.[1];
    if (address !== undefined) return { process: child, address: registryAt(address, null, folder) };
  }
  throw new Error('the registry did not start');
}
