// The template for new rules. It passes the check, so that every reported problem comes from a
// later edit.

/** Families of signatures. There is no template for correlations. */
export const FAMILIES = [
  'elicitation',
  'synthesis',
  'grading',
  'extraction',
  'provenance',
  'evasion',
  'context',
];

/** Pattern of a name after its family. */
export const NAME_PATTERN = '[a-z0-9]+(_[a-z0-9]+)*';

export const ruleTemplate = (
  family: string,
  name: string,
  id: string,
  day: string,
) => `title: A short name for the behaviour
id: ${id}
name: ${family}_${name}
status: experimental
description: Describe the behaviour, why it matters, and who else shows it.
references:
  - https://example.com/source
author: Hedgerow
date: ${day}
tags:
  - hedgerow.${family}
logsource:
  category: llm_api
  product: hedgerow
detection:
  asked:
    hedgerow.prompt.user|contains:
      - the first phrase to look for
      - the second phrase to look for
  embedded:
    gen_ai.operation.name: embeddings
  condition: asked and not embedded
falsepositives:
  - Describe benign uses that may match
level: low
custom_attributes:
  hedgerow.weight: 3
  rsigma.exemplars:
    - name: the first phrase
      expect: match
      event:
        hedgerow.prompt.user: Here is the first phrase to look for.
    - name: the second phrase
      expect: match
      event:
        hedgerow.prompt.user: Here is the second phrase to look for.
    - name: 'near: another phrase'
      expect: no-match
      event:
        hedgerow.prompt.user: Here is another phrase.
    - name: 'near: the same text, only embedded for search'
      expect: no-match
      event:
        hedgerow.prompt.user: Here is the first phrase to look for.
        gen_ai.operation.name: embeddings
`;
