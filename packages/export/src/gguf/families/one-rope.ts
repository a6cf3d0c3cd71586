import type { DecoderArchitecture } from '@lorasmith/model-folder';
import type { RefuseIf } from '../refuse.js';

/** Checks that all layers have positions, by the same frequencies. */
export function checkOneRope({ ropes }: DecoderArchitecture, refuseIf: RefuseIf): void {
  refuseIf(ropes.length !== 1 || ropes[0] === null, 'layers without positions');
}
