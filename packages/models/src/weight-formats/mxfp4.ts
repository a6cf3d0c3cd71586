import { checkMxfp4Scales, locateTensor, type Mxfp4Weight } from '@lorasmith/model-folder';
import { Mxfp4Matrices, toFloat32Array } from '@lorasmith/tensor';
import type { ReadPacked } from './tensor-reading.js';

/** The weights of a parameter of experts in MXFP4. */
export const readMxfp4: ReadPacked<Mxfp4Weight, Mxfp4Matrices> = async ({ folder, filled }, [name], [weight]) => {
  const bytes = (part: string) =>
    filled([part], {
      ...{ dtype: 'U8', tensorDtype: 'uint8' },
      shape: [locateTensor(folder, part).entry.byteLength],
    });
  const { shape, parts } = weight!;
  const [codes, scales] = await Promise.all([bytes(name!), bytes(parts[0])]);
  checkMxfp4Scales(folder, parts[0], toFloat32Array(scales));
  return new Mxfp4Matrices(shape, codes, scales);
};
