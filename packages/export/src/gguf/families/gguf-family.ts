import type { DecoderArchitecture, GgufModel } from '@lorasmith/model-folder';
import type { Setting } from '../metadata-setting.js';
import type { RefuseIf } from '../refuse.js';

/** The model that llama.cpp computes for a family, and what its files say. One that is data alone stands in the family's own file. */
export interface GgufFamily extends GgufModel {
  /** The factor of the attention scores; null: the file says it. @defaultValue 1 / √headDim */
  scoreScale?(architecture: DecoderArchitecture): number | null;
  /** The settings beside those of every decoder. @defaultValue none */
  settings?(architecture: DecoderArchitecture): Setting[];
  /** Checks that llama.cpp computes windows, positions and what else is the family's own. @defaultValue checkOneRope */
  check?(architecture: DecoderArchitecture, refuseIf: RefuseIf): void;
}
