// Where a new rule begins: something that passes the check, so that what is changed next is all there is to look at.

/** Families of signatures; correlations and their selectors are written by hand. */
export const FAMILIES = ['elicitation', 'synthesis', 'grading', 'extraction', 'provenance', 'evasion', 'context'];

/** What a name is made of, after its family. */
export const NAME = '[a-z0-9]+(_[a-z0-9]+)*';

export const template = (family: string, name: string, id: string, day: string) => `title: Says what it finds in a few words
id: ${id}
name: ${family}_${name}
status: experimental
description: Says what it finds, why that matters, and who else does it.
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
  - Says which honest use may match
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
        hedgerow.prompt.user: Here is a phrase nobody looks for.
    - name: 'near: the same text, only embedded for search'
      expect: no-match
      event:
        hedgerow.prompt.user: Here is the first phrase to look for.
        gen_ai.operation.name: embeddings
`;
