import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { dispose, fill, liveTensorCount, type Tensor } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import { built, filled, loadListed, made } from './listed.js';

const FOLDER = fileURLToPath(new URL('../../../../test/fixtures/reference/qwen2/base', import.meta.url));
const NORM = { dtype: 'F32', tensorDtype: 'float32' } as const;

async function normOf(name: string) {
  const folder = await readModelFolder(FOLDER);
  return filled([name], { ...NORM, shape: folder.tensors.get(name)!.entry.shape });
}

test('a model is listed, then its items are made as they are read, then it is built of them', async () => {
  const events: string[] = [];
  const noted = <Value>(event: string, value: Value): Value => {
    events.push(event);
    return value;
  };
  const item = made({ tensor: await normOf('model.norm.weight') }, ({ tensor }) => noted('made', tensor));
  const inner = built({ item }, (read) => noted('inner part', read.item));
  const whole = built({ inner, none: null, several: [item, item] }, (read) => noted('whole', read));
  expect(events).toEqual([]);
  const onProgress = ({ readBytes, totalBytes }: { readBytes: number; totalBytes: number }) =>
    void noted(readBytes <= totalBytes ? 'read' : 'read too much', null);
  const { inner: tensor, none, several } = await loadListed(await readModelFolder(FOLDER), whole, { onProgress });
  expect(events).toEqual(['read', 'made', 'inner part', 'whole']);
  expect(none).toBeNull();
  // An item of two parts is read once.
  expect(several).toEqual([tensor, tensor]);
  tensor.dispose();
});

test('what was made is freed when another item fails, or the model cannot be built', async () => {
  const folder = await readModelFolder(FOLDER);
  const tensor = await normOf('model.norm.weight');
  const other = await normOf('model.layers.0.input_layernorm.weight');
  const before = liveTensorCount();
  const fails = () => {
    throw new Error('cannot be made');
  };
  const late = made({ other }, async (read, give) => {
    await new Promise((resolve) => setImmediate(resolve));
    const copy: Tensor = give(fill([1], 0));
    dispose(read.other);
    return copy;
  });
  const failing = [built({ whole: made({ tensor, late }, fails) }, () => null), built({ tensor, late }, fails)];
  for (const listed of failing) await expect(loadListed(folder, listed, {})).rejects.toThrow('cannot be made');
  expect(liveTensorCount()).toBe(before);
});
