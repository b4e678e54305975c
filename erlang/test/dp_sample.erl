%% A callback module that shows what the behaviour does.
%%
%% Local data is `{Format, [Item]}', an update `{Format, Item}', where the format says in which version's
%% manner it was written: `old' or `new'. Nothing is translated on reading, so that what arrives untranslated
%% is seen. The view is what nodes have that have something, and a log of all it was told. What a scope is like is set before it starts.
-module(dp_sample).
-behaviour(data_publisher).

-export([set/2, view/1, view/2]).
-export([version/0, init_global_view/2, init_local_data/1, stop_global_view/1, update_local_data/2,
         update_global_view_and_notify/4, data_diff/2, new_subscription/2, translate_update/3,
         translate_local_data/3, translate_message/2]).

%% Sets, for a scope of this node, its `version' and the `format' it writes.
set(Scope, Settings) ->
    persistent_term:put({?MODULE, Scope}, Settings).

%% What the scope's view is made of: `log', `data', `options', `translations', or of the log what is `new'.
view(Scope, What) ->
    {Ref, Result} = data_publisher:subscribe(Scope, What),
    ok = data_publisher:unsubscribe(Scope, Ref),
    Result.

view(Scope) ->
    view(Scope, data).

setting(Key, Default) ->
    {registered_name, Scope} = process_info(self(), registered_name),
    maps:get(Key, persistent_term:get({?MODULE, Scope}, #{}), Default).

version() ->
    setting(version, 1).

init_global_view(Scope, Options) ->
    #{log => [], data => #{}, options => {Scope, Options}}.

init_local_data(Options) ->
    put(options, Options),
    {setting(format, old), maps:get(items, Options, [])}.

stop_global_view(_View) ->
    ok.

update_local_data({_, unreadable}, _Data) ->
    error(unreadable);
update_local_data({Format, Item}, {_, Items}) ->
    {Format, Items ++ [Item]}.

update_global_view_and_notify(Node, Update, Subscriptions, #{log := Log, data := Data} = View) ->
    Known = maps:get(Node, Data, {none, []}),
    New =
        case Update of
            {diff, _, To} -> To;
            _ -> update_local_data(Update, Known)
        end,
    [Pid ! {Ref, Node, Update} || {Ref, Pid} <- maps:to_list(maps:get(events, Subscriptions, #{}))],
    NewData =
        case New of
            {_, []} -> maps:remove(Node, Data);
            _ -> Data#{Node => New}
        end,
    View#{log := Log ++ [{Node, Update}], data := NewData}.

data_diff(_Old, {_, unreadable}) ->
    error(unreadable);
data_diff(Old, New) ->
    {diff, Old, New}.

new_subscription(options, #{options := Options}) ->
    {Options, get(options)};
new_subscription(translations, _View) ->
    case get(translations) of
        undefined -> [];
        Translations -> Translations
    end;
new_subscription(events, _View) ->
    [];
new_subscription(new, #{log := Log}) ->
    [Told || {_Node, Update} = Told <- Log, lists:member(new, tuple_to_list(flat(Update)))];
new_subscription(What, View) ->
    map_get(What, View).

flat({diff, {From, _}, {To, _}}) -> {From, To};
flat({Format, _}) -> {Format}.

translate_update(Ours, Peers, {_, {plain, Messages}}) ->
    note(Ours, Peers),
    {'$plain_messages', Messages};
translate_update(Ours, Peers, {Format, Item}) ->
    note(Ours, Peers),
    {translate(Ours, Peers, Format), Item}.

translate_local_data(Ours, Peers, {Format, Items}) ->
    note(Ours, Peers),
    {translate(Ours, Peers, Format), Items}.

translate(Ours, Peers, new) when Peers < Ours -> old;
translate(_Ours, _Peers, Format) -> Format.

note(Ours, Peers) ->
    put(translations, lists:usort([{Ours, Peers} | new_subscription(translations, none)])).

translate_message({mine, Item}, View) ->
    {update, {setting(format, old), Item}, View};
translate_message({hello, Peer}, View) ->
    {discover, Peer, 0, View};
translate_message({all, Peer, Data}, View) ->
    {local_data, Peer, 0, Data, View};
translate_message({some, Peer, Update}, View) ->
    {update, Peer, Update, View};
translate_message(fail, _View) ->
    error(failed);
translate_message(Message, #{log := Log} = View) ->
    {drop, View#{log := Log ++ [{message, Message}]}}.
