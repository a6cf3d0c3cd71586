import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

// What a process can know of the CUDA engine without loading an engine: importing this loads neither TensorFlow nor the driver.

const BUILD_FOLDER = new URL('../native/build/', import.meta.url);
const KERNELS = 'cuda';

/** The files of the CUDA engine. */
export interface CudaInstallation {
  /** The addon that is its host side. */
  addonFile: string;
  /** The architectures that its kernels were compiled for, such as `sm_90`; empty: there are no kernels. */
  architectures: string[];
  /** Changes whenever one of the files does. */
  digest: string;
}

/** A card as the driver describes it. */
export interface CardDescription {
  ordinal: number;
  name: string;
  /** Such as `GPU-8f6b2c1e-…`. */
  uuid: string;
  capability: [major: number, minor: number];
  totalBytes: number;
}

export interface DriverDescription {
  /** The CUDA version that the driver supports: 12040 is 12.4; 0 without a driver. */
  driverVersion: number;
  /** Why there is no card; null where there is one. */
  error: string | null;
  /** The cards that CUDA_VISIBLE_DEVICES lets this process see. */
  devices: CardDescription[];
}

/**
 * @param kernelDir where the kernels are, if not beside the addon: `CUDA_KERNEL_DIR`
 * @returns null where the addon was not compiled
 */
export function cudaInstallation(kernelDir?: string): CudaInstallation | null {
  const addonFile = fileURLToPath(new URL('cuda.node', BUILD_FOLDER));
  if (!existsSync(addonFile)) return null;
  const kernelFolder = kernelDir === undefined ? new URL(`${KERNELS}/`, BUILD_FOLDER) : pathToFileURL(`${kernelDir}/`);
  const files = (existsSync(kernelFolder) ? readdirSync(kernelFolder, { recursive: true, encoding: 'utf8' }) : [])
    .filter((name) => /^\w+\/[^/]+\.(cubin|ptx)\.gz$/.test(name))
    .sort();
  const hash = createHash('sha256').update(readFileSync(addonFile));
  for (const file of files) hash.update(file).update(readFileSync(new URL(file, kernelFolder)));
  const architectures = [...new Set(files.map((file) => file.split('/')[0]!))];
  return { addonFile, architectures, digest: hash.digest('hex') };
}

/** Asks the driver for its cards, by the addon; makes no context on any of them. @throws Error when the addon does not load */
export function describeDriver({ addonFile }: CudaInstallation): DriverDescription {
  const addon = createRequire(import.meta.url)(addonFile) as { describe(): DriverDescription };
  return addon.describe();
}
