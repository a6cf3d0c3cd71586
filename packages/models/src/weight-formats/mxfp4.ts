import { checkMxfp4Scales, locateTensor, type Mxfp4Weight } from '@lorasmith/model-folder';
import { Mxfp4Matrices, toFloat32Array } from '@lorasmith/tensor';
import { filled, made } from '../loading/listed.js';
import type { ListPacked } from './packed-format.js';

/** The weights of a parameter of experts in MXFP4. */
export const listMxfp4: ListPacked<Mxfp4Weight, Mxfp4Matrices> = (folder, [name], [weight]) => {
  const bytes = (part: string) => {
    const { byteLength } = locateTensor(folder, part).entry;
    return filled([part], { dtype: 'U8', tensorDtype: 'uint8', shape: [byteLength] });
  };
  const { shape, parts } = weight!;
  return made({ codes: bytes(name!), scales: bytes(parts[0]) }, ({ codes, scales }) => {
    checkMxfp4Scales(folder, parts[0], toFloat32Array(scales));
    return new Mxfp4Matrices(shape, codes, scales);
  });
};
