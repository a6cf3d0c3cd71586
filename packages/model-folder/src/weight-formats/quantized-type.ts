import type { AdapterManifest } from '@lorasmith/contracts';

/** The types of weights in 4 bits with a table of their own, as manifests name them. */
export type FourBitType = NonNullable<AdapterManifest['base_model']['quantization']>['type'];

/** The types of quantized weights, as the API names them. */
export type QuantizedType = FourBitType | 'fp8' | 'mxfp4';
