import type { JobRequest } from '../packages/contracts/src/index.js';

type Training = NonNullable<JobRequest['training']>;

/**
 * The precision of jobs whose base model no test names. With `BASE_QUANTIZATION=nf4` in the environment it is quantized when it is
 * loaded, so that a whole suite runs on such a base.
 */
export const USUAL_BASE: Pick<Training, 'precision' | 'base_quantization'> = usualBase(process.env.BASE_QUANTIZATION);

function usualBase(quantization = 'none'): typeof USUAL_BASE {
  if (quantization === 'none') return { precision: 'float32' };
  if (quantization === 'nf4') return { precision: 'bfloat16', base_quantization: 'nf4' };
  throw new Error(`BASE_QUANTIZATION is ${quantization}; none and nf4 are known`);
}
