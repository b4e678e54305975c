%% A publisher in two formats, for tests of versions that run side by side: each node owns names, and in
%% format 2 each name has a weight.
%%
%% |          | format 1                         | format 2                               |
%% | -------- | -------------------------------- | -------------------------------------- |
%% | data     | `[Name]`, sorted                 | `#{Name => Weight}`                    |
%% | update   | `[{add, Name} | {remove, Name}]` | `[{set, Name, Weight} | {drop, Name}]` |
%%
%% Format 2 writes format 1 for each peer whose version is lower than its own, as terms are ordered; the
%% weights are lost. It reads both: a name of format 1 weighs 1. Format 1 reads nothing but itself. What
%% reaches it in format 2 is noted, see untranslated/0, and passed over.
%%
%% Subscriptions are `all`, answered by `#{Node => [Name]}`, and `{node, Node}`, answered by `[Name]`. The
%% events are `{Ref, add, Node, Name}` and `{Ref, remove, Node, Name}`; another weight is none.
%%
%% Which format and version a scope has is said when it starts (start/2) and by default when the module is
%% compiled (`-DFORMAT=2 -DVERSION=2`). Its twin in Rust is `integration/publishers/names.rs`.
-module(dp_names).

-behaviour(data_publisher).

-export([start/2, stop/1, add/2, add/3, remove/2, subscribe/2, unsubscribe/2]).
-export([all/1, weights/1, untranslated/0, forget_untranslated/0]).
-export([version/0, init_global_view/2, init_local_data/1, stop_global_view/1]).
-export([update_local_data/2, update_global_view_and_notify/4, data_diff/2, new_subscription/2]).
-export([translate_update/3, translate_local_data/3, translate_message/2]).

-ifndef(FORMAT).
-define(FORMAT, 1).
-endif.
-ifndef(VERSION).
-define(VERSION, 1).
-endif.

%%% For tests

%% Starts a scope that nothing is linked to. Options: `format` and `version`, and those of data_publisher.
%% The same scope may be started again with others, once it has stopped.
start(Scope, Options) ->
    Format = {maps:get(format, Options, ?FORMAT), maps:get(version, Options, ?VERSION)},
    persistent_term:put({?MODULE, Scope}, Format),
    data_publisher:start(Scope, ?MODULE, maps:without([format, version], Options)).

%% Ends a scope; when this returns, its name is free again.
stop(Scope) ->
    gen_server:stop(Scope).

%% A name becomes ours; in format 2 with a weight of 1.
add(Scope, Name) ->
    add(Scope, Name, 1).

%% Or has another weight. Format 1 knows none.
add(Scope, Name, Weight) ->
    update(Scope, case format_of(Scope) of 1 -> {add, Name}; 2 -> {set, Name, Weight} end).

remove(Scope, Name) ->
    update(Scope, case format_of(Scope) of 1 -> {remove, Name}; 2 -> {drop, Name} end).

update(Scope, Change) ->
    data_publisher:update(Scope, [Change]).

subscribe(Scope, Key) ->
    data_publisher:subscribe(Scope, Key).

unsubscribe(Scope, Ref) ->
    data_publisher:unsubscribe(Scope, Ref).

%% `#{Node => [Name]}`, the names sorted; nodes without names aren't in it. The same in both formats.
all(Scope) ->
    all_of(ets:tab2list(Scope)).

%% `#{Node => #{Name => Weight}}`.
weights(Scope) ->
    Add = fun({{Node, Name}, Weight}, All) ->
                  All#{Node => (maps:get(Node, All, #{}))#{Name => Weight}}
          end,
    lists:foldl(Add, #{}, ets:tab2list(Scope)).

%% What reached a scope of format 1 on this node in format 2: `[{Node, Change | LocalData}]`, the oldest first.
untranslated() ->
    lists:reverse(persistent_term:get({?MODULE, '$untranslated'}, [])).

forget_untranslated() ->
    persistent_term:erase({?MODULE, '$untranslated'}).

%%% Callbacks. They run in the scope's process, which is registered before the first of them is called.

version() ->
    {_Format, Version} = mine(),
    Version.

%% A table of `{{Node, Name}, Weight}`; in format 1 all weigh 1.
init_global_view(Scope, _Options) ->
    ets:new(Scope, [ordered_set, protected, named_table]).

init_local_data(_Options) ->
    case my_format() of 1 -> []; 2 -> #{} end.

stop_global_view(Table) ->
    ets:delete(Table).

update_local_data(Update, Data) ->
    Changed = lists:foldl(fun change/2, weighed(Data), changes(Update)),
    case my_format() of 1 -> lists:sort(maps:keys(Changed)); 2 -> Changed end.

change({set, Name, Weight}, Data) -> Data#{Name => Weight};
change({drop, Name}, Data) -> maps:remove(Name, Data).

update_global_view_and_notify(Node, Update, Subscriptions, Table) ->
    my_format() =:= 1 andalso note([{Node, Change} || Change <- Update, not is_format_1(Change)]),
    lists:foreach(fun(Change) -> show(Node, Change, Subscriptions, Table) end, changes(Update)),
    Table.

show(Node, {set, Name, Weight}, Subscriptions, Table) ->
    IsNew = not ets:member(Table, {Node, Name}),
    ets:insert(Table, {{Node, Name}, Weight}),
    IsNew andalso notify(add, Node, Name, Subscriptions);
show(Node, {drop, Name}, Subscriptions, Table) ->
    WasThere = ets:take(Table, {Node, Name}) =/= [],
    WasThere andalso notify(remove, Node, Name, Subscriptions).

notify(Event, Node, Name, Subscriptions) ->
    [erlang:send(Pid, {Ref, Event, Node, Name}, [noconnect])
     || Key <- [all, {node, Node}],
        {Ref, Pid} <- maps:to_list(maps:get(Key, Subscriptions, #{}))].

%% First what goes, then what comes, each sorted.
data_diff(Old, New) ->
    my_format() =:= 1 andalso note([{unknown, Data} || Data <- [New], is_map(Data)]),
    {Before, After} = {weighed(Old), weighed(New)},
    Gone = lists:sort(maps:keys(maps:without(maps:keys(After), Before))),
    Same = maps:filter(fun(Name, Weight) -> maps:find(Name, Before) =:= {ok, Weight} end, After),
    Come = lists:sort(maps:to_list(maps:without(maps:keys(Same), After))),
    case my_format() of
        1 -> [{remove, Name} || Name <- Gone] ++ [{add, Name} || {Name, 1} <- Come];
        2 -> [{drop, Name} || Name <- Gone] ++ [{set, Name, Weight} || {Name, Weight} <- Come]
    end.

new_subscription(all, Table) ->
    all_of(ets:tab2list(Table));
new_subscription({node, Node}, Table) ->
    lists:sort([Name || {{Of, Name}, _} <- ets:tab2list(Table), Of =:= Node]).

translate_update(Mine, Theirs, Update) ->
    case my_format() of
        2 when Theirs < Mine -> [down(Change) || Change <- Update];
        _ -> Update
    end.

down({set, Name, _Weight}) -> {add, Name};
down({drop, Name}) -> {remove, Name};
down(Change) -> Change.

translate_local_data(Mine, Theirs, Data) ->
    case my_format() of
        2 when Theirs < Mine -> lists:sort(maps:keys(weighed(Data)));
        _ -> Data
    end.

translate_message(_Message, Table) ->
    {drop, Table}.

%%% The two formats

mine() ->
    {registered_name, Scope} = process_info(self(), registered_name),
    persistent_term:get({?MODULE, Scope}, {?FORMAT, ?VERSION}).

my_format() ->
    {Format, _Version} = mine(),
    Format.

format_of(Scope) ->
    {Format, _Version} = persistent_term:get({?MODULE, Scope}, {?FORMAT, ?VERSION}),
    Format.

is_format_1({add, _}) -> true;
is_format_1({remove, _}) -> true;
is_format_1(_) -> false.

%% An update as one of format 2, as far as this format reads it.
changes(Update) ->
    Format = my_format(),
    lists:append([up(Format, Change) || Change <- Update]).

up(_, {add, Name}) -> [{set, Name, 1}];
up(_, {remove, Name}) -> [{drop, Name}];
up(2, Change) -> [Change];
up(1, _) -> [].

%% Local data as that of format 2, as far as this format reads it.
weighed(Names) when is_list(Names) ->
    maps:from_list([{Name, 1} || Name <- Names]);
weighed(Data) when is_map(Data) ->
    case my_format() of 1 -> #{}; 2 -> Data end.

all_of(Rows) ->
    Add = fun({{Node, Name}, _}, All) -> All#{Node => [Name | maps:get(Node, All, [])]} end,
    maps:map(fun(_, Names) -> lists:sort(Names) end, lists:foldl(Add, #{}, Rows)).

note([]) -> true;
note(Untranslated) ->
    Key = {?MODULE, '$untranslated'},
    persistent_term:put(Key, lists:reverse(Untranslated, persistent_term:get(Key, []))).
