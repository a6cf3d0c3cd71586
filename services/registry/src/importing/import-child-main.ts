import { join } from 'node:path';
import { answerParent } from '@lorasmith/child-processes';
import { ADAPTER_FILES, type AdapterManifest } from '@lorasmith/contracts';
import { baseModelOfAdapter, digestBase, openBaseModel, WeightDigests } from '@lorasmith/model-folder';
import {
  checkFitsBase,
  commonFormBytes,
  manifestLora,
  readPeftFolder,
  rowsOfGateUp,
  withFusedExperts,
  withServedNames,
  writePeftFolder,
} from '@lorasmith/peft-files';
import { digestFile } from '@lorasmith/storage';
import { checkStoredBytes, type ImportRequest, type ImportResult } from './import-request.js';

answerParent<ImportRequest, ImportResult>('import', importAdapter);

/**
 * Checks an adapter against its base model and rewrites it. The config gets only known fields, so that no unchecked field
 * has an effect. The weights get one rank and one scale, which is all that other servers support.
 */
async function importAdapter(request: ImportRequest): Promise<ImportResult> {
  const model = await openBaseModel(request.modelsDir, request.baseModel);
  const read = await readPeftFolder(request.adapterFolder, {
    check: (shapes) => checkStoredBytes(commonFormBytes(shapes.values()), request.bounds),
    base: model,
  });
  const adapter = withServedNames(withFusedExperts(read, rowsOfGateUp(model)), model);
  // Matrices of gate and up have been padded to twice their rank.
  checkStoredBytes(commonFormBytes(adapter.modules.values()), request.bounds);
  checkFitsBase(adapter, model);
  const written = await writePeftFolder(request.outputFolder, adapter, model);
  const files: AdapterManifest['files'] = [];
  for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
    files.push({ name, ...(await digestFile(join(request.outputFolder, name))) });
  }
  return {
    base_model: baseModelOfAdapter(model, await digestBase(model, new WeightDigests(request.weightDigests))),
    lora: manifestLora(adapter, written),
    files,
  };
}
