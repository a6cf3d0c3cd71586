import { ProductError } from '@lorasmith/contracts';
import {
  type CommonForm,
  cutRank,
  type PeftAdapter,
  type PeftModule,
  readPeftFolder,
  withScale,
} from '@lorasmith/peft-files';
import { checkFailed } from './rounding-bounds.js';

/** An adapter as read from its files. */
export interface ReadBack {
  /** The adapter as any reader of the files sees it: one rank and one scale. */
  written: PeftAdapter;
  /** The adapter with the ranks and scales it was trained with. */
  trained: PeftAdapter;
  /** True if that conversion is exact: then it equals the trained adapter bit for bit. */
  exact: boolean;
}

/**
 * Reads an adapter that was just written, and compares each number with what was to be written.
 *
 * @throws ProductError adapter_check_failed naming the matrix; non_finite_loss for a number that is not finite;
 * invalid_adapter when the files cannot be read
 */
export async function readBack(folder: string, trained: PeftAdapter, meant: CommonForm): Promise<ReadBack> {
  const written = await readPeftFolder(folder);
  for (const [name, module] of meant.modules) compare(name, module, written.modules.get(name));
  const unknown = [...written.modules.keys()].find((name) => !meant.modules.has(name));
  if (unknown !== undefined) throw checkFailed(`The files contain ${unknown}, which was not trained.`);
  const modules = [...trained.modules].map(([name, module]) => {
    const cut = cutRank(written.modules.get(name)!, module.rank);
    if (cut === null) throw checkFailed(`The files contain another rank than ${module.rank} for ${name}.`);
    return [name, withScale(cut, module.scale)] as const;
  });
  return {
    written,
    trained: { ...trained, modules: new Map(modules) },
    exact: modules.every(([name, { b }]) => isSame(b, trained.modules.get(name)!.b)),
  };
}

function compare(name: string, meant: PeftModule, found: PeftModule | undefined): void {
  if (found === undefined) throw checkFailed(`The files do not contain ${name}.`);
  if (found.rank !== meant.rank || found.scale !== meant.scale) {
    throw checkFailed(
      `The files contain rank ${found.rank} and scale ${found.scale} for ${name}; ${meant.rank} and ${meant.scale} were written.`,
    );
  }
  for (const [matrix, of] of [
    ['A', 'a'],
    ['B', 'b'],
  ] as const) {
    if (!allFinite(meant[of])) {
      const message = `The trained matrix ${matrix} of ${name} contains a number that is not finite. Train with a lower learning_rate.`;
      throw new ProductError('non_finite_loss', message);
    }
    if (isSame(meant[of], found[of])) continue;
    const index = meant[of].findIndex((value, i) => !Object.is(value, found[of][i]));
    const difference = `${found[of][index]} was read where ${meant[of][index]} was written`;
    throw checkFailed(`Matrix ${matrix} of ${name} differs when read back: ${difference}.`);
  }
}

/** Bit for bit. */
function isSame(one: Float32Array, other: Float32Array): boolean {
  return Buffer.compare(bytesOf(one), bytesOf(other)) === 0;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Much faster than `every` with a function. */
export function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
